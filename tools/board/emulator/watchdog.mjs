// The watchdog of rp2040js, with the functions that it lacks.
const WATCHDOG = 0x40058; // its place among the peripherals

/** Call `expired` when the watchdog of `chip` resets it. `before`: the chip that it has reset, whose
 * reason and scratch registers stay; null after power-on and after the reset button. */
export function connectWatchdog(chip, before, expired) {
  const watchdog = chip.peripherals[WATCHDOG];
  if (before) {
    watchdog.reason = before.peripherals[WATCHDOG].reason;
    watchdog.scratchData.set(before.peripherals[WATCHDOG].scratchData);
  }
  watchdog.onWatchdogTrigger = () => {
    watchdog.alarm.enable = false; // else rp2040js fires it again at the same time, without end
    expired();
  };
}
