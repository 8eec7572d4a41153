"""The arrows by number, for the compiled loop."""

EM, SIMPLIFIED, PX, PX_COMPONENT, PX_FULL, BY_SCORE, HENDERSON = 0, 1, 2, 3, 4, 5, 6
NEWTON, FISHER, AI = 10, 11, 12
LBFGS = 20

# an acceleration is added to the code of the EM map that it accelerates
SQUAREM, DAAREM = 100, 200
