/* The way from a campaign to a module in C: one process for each message.

   cc -o install adapter.c module.c -lcrypto
   plugvault campaign cases \
       --module 'exec:./install vehicle.key {elements} {trust} {store} {at} {session} {emaid}'

   It ends with 0 when the contract is installed and with 1 when it is refused; the reason is on
   standard error. Any other end is a crash. */
#include "module.h"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    if (argc != 8) {
        fprintf(stderr, "usage: %s KEY ELEMENTS TRUST STORE AT SESSION EMAID\n", argv[0]);
        return 2;
    }
    struct installation given = {
        .key = argv[1],
        .elements = argv[2],
        .trust = argv[3],
        .store = argv[4],
        .at = (time_t)strtoll(argv[5], NULL, 10),
        .session = argv[6],
        .emaid = argv[7],
    };
    const char *refusal = module_install(&given);
    if (refusal == NULL)
        return 0;
    fprintf(stderr, "%s\n", refusal);
    return 1;
}
