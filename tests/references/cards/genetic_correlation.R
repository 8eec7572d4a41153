# ML and REML of two traits with a pedigree, in the eigenbasis of A: the answers of models/genetic_correlation.toml.
# R 4.2.2, base only:  Rscript genetic_correlation.R FOLDER_OF_SHARED_DATA
folder <- commandArgs(TRUE)[1]
g <- read.csv(file.path(folder, "gryphon.csv")); p <- read.csv(file.path(folder, "gryphon_pedigree.csv"))
g <- g[!is.na(g$bwt) & !is.na(g$tarsus), ]
m <- nrow(p); s <- match(p$father, p$id); d <- match(p$mother, p$id); s[is.na(s)] <- m + 1; d[is.na(d)] <- m + 1
generation <- rep(0, m + 1)
repeat {
  older <- c(pmax(generation[s], generation[d]) + 1, 0)
  if (all(older == generation)) break
  generation <- older
}
A <- matrix(0, m + 1, m + 1)
for (i in order(generation[1:m])) {
  A[i, ] <- (A[s[i], ] + A[d[i], ]) / 2
  A[, i] <- A[i, ]
  A[i, i] <- 1 + A[s[i], d[i]] / 2
}
at <- match(g$animal, p$id); e <- eigen(A[at, at], symmetric = TRUE); n <- nrow(g)
X <- t(e$vectors) %*% model.matrix(~ factor(sex), g); Y <- t(e$vectors) %*% cbind(g$bwt, g$tarsus)
root <- function(t) matrix(c(exp(t[1]), t[2], 0, exp(t[3])), 2)
minus_loglik <- function(t, reml) {
  G <- tcrossprod(root(t[1:3])); R <- tcrossprod(root(t[4:6]))
  a <- e$values * G[1, 1] + R[1, 1]; b <- e$values * G[1, 2] + R[1, 2]; c <- e$values * G[2, 2] + R[2, 2]
  D <- a * c - b^2; i11 <- c / D; i12 <- -b / D; i22 <- a / D
  H <- rbind(cbind(t(X) %*% (i11 * X), t(X) %*% (i12 * X)), cbind(t(X) %*% (i12 * X), t(X) %*% (i22 * X)))
  beta <- solve(H, c(t(X) %*% (i11 * Y[, 1] + i12 * Y[, 2]), t(X) %*% (i12 * Y[, 1] + i22 * Y[, 2])))
  r <- Y - cbind(X %*% beta[1:2], X %*% beta[3:4])
  q <- sum(i11 * r[, 1]^2 + 2 * i12 * r[, 1] * r[, 2] + i22 * r[, 2]^2)
  extra <- if (reml) determinant(H)$modulus[1] - 4 * log(2 * pi) else 0
  0.5 * (2 * n * log(2 * pi) + sum(log(D)) + q + extra)
}
for (reml in c(TRUE, FALSE)) {
  best <- nlminb(c(.5, 1, 1, .5, 1, 1.4), minus_loglik, reml = reml,
                 control = list(rel.tol = 1e-15, iter.max = 1000, eval.max = 3000))
  cat(if (reml) "REML" else "ML", sprintf("%.9f", -best$objective), "\n")
  print(tcrossprod(root(best$par[1:3])), digits = 9); print(tcrossprod(root(best$par[4:6])), digits = 9)
}
# REML -3589.162740578
# 2.73796955  2.16223943 / 2.16223943 11.94820411;  3.04071872  3.7073399 / 3.70733990 17.9708484
# ML -3586.782676177
# 2.70710071  2.1148186 / 2.11481860 11.7521311;  3.05059103  3.73095594 / 3.73095594 18.05311420
