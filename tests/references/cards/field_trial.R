# REML of yield ~ gen with AR(1) x AR(1) residuals, V dense: the log-likelihood of models/field_trial.toml.
# R 4.2.2, base only:  Rscript field_trial.R FOLDER_OF_SHARED_DATA
d <- read.csv(file.path(commandArgs(TRUE)[1], "agridat_gilmour_slatehall.csv"))
X <- model.matrix(~ gen, d); y <- d$yield; n <- nrow(X); p <- ncol(X)
lag <- function(x) abs(outer(x, x, "-"))
minus_loglik <- function(t) {
  V <- exp(t[1]) * tanh(t[2])^lag(d$col) * tanh(t[3])^lag(d$row)
  W <- solve(V); A <- t(X) %*% W %*% X; r <- y - X %*% solve(A, t(X) %*% W %*% y)
  0.5 * ((n - p) * log(2 * pi) + c(determinant(V)$modulus) + c(determinant(A)$modulus) + sum(r * (W %*% r)))
}
best <- nlminb(c(11, 0.9, 0.3), minus_loglik, control = list(rel.tol = 1e-14))
print(-best$objective, digits = 13)
print(c(var = exp(best$par[1]), rho_col = tanh(best$par[2]), rho_row = tanh(best$par[3])), digits = 8)
# [1] -844.5965220966
#          var      rho_col      rho_row
# 6.2028358e+04 7.4516560e-01 2.6005318e-01
