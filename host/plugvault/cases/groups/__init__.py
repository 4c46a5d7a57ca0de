"""The cases by group: EN, RC, SE, PA, SG, EM, KT, ST."""
