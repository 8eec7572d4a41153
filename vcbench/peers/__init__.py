"""Other programs as methods: the same model, data and responses go to them, their answers come back under our names.

Each adapter is `fit(model, criterion, Y, options, seed) -> list[dict]`, one dict a response, as every method behind a
door of `vcbench.methods`. A program gets the design, not the formula (the response less any offset, X's columns, each
component's rows A_i and codes, or a root of Z Zᵀ or K), so that contrasts, dropped rows and names of levels cannot
differ and what is compared is the fit. What a program cannot express, or a program that is not there, is a MethodError
that says so: a SKIPPED row in a study, a line in a comparison.

Its numbers are its own. `cpu_seconds` and `seconds` are its fit alone, measured inside it, without its start or the
exchange of data; reading a formula is in them for glmm and mixedlm, which take nothing else, and not for lme4, which
reads it once a batch. `n_iter` is what it counts: iterations, or evaluations where it counts no iterations. `extra`
names program and version.
"""
