# lme4 on the responses that vcbench left in a folder: lmer's own steps (lFormula, mkLmerDevfun, optimizeLmer, checkConv,
# mkMerMod), the first once, the others for each response; refit() is not used, its REML criterion was wrong before 1.1-33.

folder <- commandArgs(TRUE)[1]
source(commandArgs(TRUE)[2])
need("lme4")

K <- number("n_terms")
X <- read_matrix("X")
Y <- read_matrix("Y")
frame <- data.frame(y = Y[, 1])
frame$X <- X
columns <- list()                                    # of terms without groups: V = sigma^2 A A'
for (k in seq_len(K)) {
  A <- read_matrix(paste0("A", k))
  if (has(paste0("g", k))) {
    frame[[paste0("A", k)]] <- A
    frame[[paste0("g", k)]] <- read_codes(paste0("g", k))
  } else {                                           # a factor with a level for each column holds the place
    frame[[paste0("A", k)]] <- rep(1, n)
    frame[[paste0("g", k)]] <- factor(rep_len(seq_len(ncol(A)), n))
    columns[[paste0("g", k)]] <- as(t(A), "CsparseMatrix")
  }
}
bars <- sprintf("(0 + A%d | g%d)", seq_len(K), seq_len(K))
control <- lmerControl(check.nobs.vs.nlev = "ignore", check.nobs.vs.nRE = "ignore", check.nobs.vs.rankZ = "ignore",
                       check.nlev.gtr.1 = "ignore", check.nlev.gtreq.5 = "ignore", check.rankX = "ignore", check.scaleX = "ignore")
if ("optimizer" %in% names(info)) control$optimizer <- info[["optimizer"]]
parsed <- lFormula(as.formula(paste("y ~ 0 + X +", paste(bars, collapse = " + "))), frame, REML = reml, control = control)
if (has("w")) parsed$fr[["(weights)"]] <- drop(read_matrix("w"))

terms <- parsed$reTrms
order <- as.integer(sub("^g", "", names(terms$cnms)))        # lme4 puts the term with most levels first
r <- lengths(terms$cnms)
first <- cumsum(c(0, r * (r + 1) / 2))                       # where a term's theta begin, less one
for (i in seq_len(K)) {
  A <- columns[[names(terms$cnms)[i]]]
  if (!is.null(A)) terms$Zt[(terms$Gp[i] + 1):terms$Gp[i + 1], ] <- A
}
terms$Zt <- drop0(terms$Zt)
starts <- as.integer(strsplit(info[["starts"]], " ")[[1]])   # of our theta, by term, in our order
places <- lapply(seq_len(K), function(i) starts[order[i]] + seq_len(first[i + 1] - first[i]))

lower <- function(M) M[lower.tri(M, diag = TRUE)]
symmetric <- function(v, r) { M <- matrix(0, r, r); M[lower.tri(M, diag = TRUE)] <- v; M + t(M) - diag(diag(M), r) }
factor_of <- function(theta, i) {
  L <- matrix(0, r[i], r[i]); L[lower.tri(L, diag = TRUE)] <- theta[(first[i] + 1):first[i + 1]]; L
}

natural <- function(theta, sigma2) {
  v <- numeric(p)
  for (i in seq_len(K)) v[places[[i]]] <- lower(sigma2 * tcrossprod(factor_of(theta, i)))
  v[p] <- sigma2
  v
}

# -2 log-likelihood as a function of the variances and covariances, from lme4's own profiled deviance
deviance_of <- function(devfun) {
  rho <- environment(devfun)
  function(v) {
    s2 <- v[p]
    theta <- unlist(lapply(seq_len(K), function(i) {
      if (r[i] == 1) sqrt(v[places[[i]]] / s2) else lower(t(chol(symmetric(v[places[[i]]], r[i]) / s2)))
    }))
    devfun(theta)
    k <- if (reml) n - d else n
    rho$pp$ldL2() + (if (reml) rho$pp$ldRX2() else 0) + k * log(2 * pi * s2) + (rho$resp$wrss() + rho$pp$sqrL(1)) / s2
  }
}

covariance <- function(devfun, theta, v) {
  singular <- vapply(seq_len(K), function(i) min(abs(diag(factor_of(theta, i)))) < 1e-4, NA)
  none <- matrix(NA_real_, p, p)
  if (any(singular & r > 1)) return(none)
  free <- sort(c(unlist(places[!singular]), p))
  v[unlist(places[singular])] <- 0
  h <- 1e-3 * v
  for (i in which(r > 1)) {
    O <- symmetric(v[places[[i]]], r[i]); h[places[[i]]] <- 1e-3 * lower(sqrt(outer(diag(O), diag(O))))
    room <- min(eigen(cov2cor(O), only.values = TRUE)$values)  # steps stay inside the cone
    h[places[[i]]] <- h[places[[i]]] * min(1, 50 * room)
  }
  tryCatch(inverse_information(deviance_of(devfun), v, h, free), error = function(e) none)
}

fit_each(Y, function(y) {
  fr <- parsed$fr
  fr$y <- y
  own <- terms
  own$theta <- own$theta + 0                         # lme4 writes into these
  own$Lambdat@x <- own$Lambdat@x + 0
  began <- proc.time()
  devfun <- mkLmerDevfun(fr, parsed$X, own, REML = reml, control = control)
  opt <- optimizeLmer(devfun, optimizer = control$optimizer, restart_edge = control$restart_edge,
                      boundary.tol = control$boundary.tol, control = control$optCtrl, calc.derivs = control$calc.derivs)
  checked <- checkConv(attr(opt, "derivs"), opt$par, ctrl = control$checkConv, lbound = environment(devfun)$lower)
  m <- mkMerMod(environment(devfun), opt, own, fr = fr, mc = quote(lmer()), lme4conv = checked)
  took <- proc.time() - began
  theta <- getME(m, "theta") + 0
  sigma2 <- sigma(m)^2
  found <- list(loglik = as.numeric(logLik(m)), n_iter = opt$feval, n_eval = opt$feval,
                cpu = took[["user.self"]] + took[["sys.self"]], wall = took[["elapsed"]],
                ended = if (isTRUE(opt$conv != 0)) 2 else as.numeric(isSingular(m)),
                theta = natural(theta, sigma2), beta = unname(fixef(m)), beta_cov = as.vector(as.matrix(vcov(m))),
                said = as.character(checked$messages))
  found$theta_cov <- as.vector(covariance(devfun, theta, found$theta))
  found
})
