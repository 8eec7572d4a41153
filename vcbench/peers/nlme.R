# nlme on the responses that vcbench left in a folder: lme where there are random terms, else gls.

folder <- commandArgs(TRUE)[1]
source(commandArgs(TRUE)[2])
need("nlme")

K <- number("n_terms")
X <- read_matrix("X")
Y <- read_matrix("Y")
frame <- data.frame(one = factor(rep(1, n)), y = Y[, 1])
named <- function(stem, M) { colnames(M) <- paste0(stem, seq_len(ncol(M))); M }
frame <- cbind(frame, named("x", X))
split_words <- function(key) if (nzchar(info[[key]])) strsplit(info[[key]], " ")[[1]] else character(0)
groups <- split_words("groups")                       # outermost first: names of factors
for (g in setdiff(groups, "one")) frame[[g]] <- read_codes(g)
fixed <- as.formula(paste("y ~ 0 +", paste0("x", seq_len(d), collapse = " + ")))

# One positive-definite matrix for each term; a term with columns (V = sigma^2 A A') is a multiple of the identity.
size <- integer(K)
matrix_of <- function(k) {
  A <- named(paste0("a", k, "_"), read_matrix(paste0("A", k)))
  frame <<- cbind(frame, A)
  form <- as.formula(paste("~ 0 +", paste(colnames(A), collapse = " + ")))
  columns <- info[[paste0("columns", k)]] == "1"
  size[k] <<- if (columns) 1L else ncol(A)
  if (columns) pdIdent(form = form) else pdLogChol(form = form)
}
random <- list()
for (g in groups) {
  inside <- as.integer(split_words(paste0("terms_", g)))
  made <- lapply(inside, matrix_of)
  random[[g]] <- if (length(made) == 1) made[[1]] else pdBlocked(made)
}

# Residuals: a correlation within units, standard deviations by level, known weights
kind <- info[["correlation"]]
if (has("t")) frame <- cbind(frame, named("t", read_matrix("t")))
if (has("unit")) frame$unit <- read_codes("unit")
if (has("level")) frame$level <- read_codes("level")
if (has("w")) frame$inverse <- 1 / drop(read_matrix("w"))
path <- paste(c(groups, if (has("unit")) "unit"), collapse = "/")
times <- if (has("t")) paste(grep("^t[0-9]+$", names(frame), value = TRUE), collapse = " + ") else "1"
form <- as.formula(paste("~", times, if (nzchar(path)) paste("|", path)))
correlation <- switch(kind, none = NULL, ar1 = corAR1(form = form), car1 = corCAR1(form = form),
  cs = corCompSymm(form = form), arma11 = corARMA(form = form, p = 1, q = 1), ma = corARMA(form = form, q = number("order")),
  cor = corSymm(form = form), exponential = corExp(form = form), gaussian = corGaus(form = form))
weights <- if (has("level")) varIdent(form = ~ 1 | level) else if (has("w")) varFixed(~ inverse)

# theta from the parts of a fitted structure; `absolute`: its matrices are variances, not multiples of sigma^2
starts <- as.integer(split_words("starts"))
theta_of <- function(parts, sigma2, absolute) {
  v <- numeric(p)
  for (g in groups) {
    inside <- as.integer(split_words(paste0("terms_", g)))
    blocks <- parts$reStruct[[g]]
    blocks <- if (inherits(blocks, "pdBlocked")) lapply(seq_along(blocks), function(i) blocks[[i]]) else list(blocks)
    for (i in seq_along(inside)) {
      M <- as.matrix(pdMatrix(blocks[[i]])) * (if (absolute) 1 else sigma2)
      k <- inside[i]
      M <- M[seq_len(size[k]), seq_len(size[k]), drop = FALSE]
      v[starts[k] + seq_len(size[k] * (size[k] + 1) / 2)] <- M[lower.tri(M, diag = TRUE)]
    }
  }
  own <- if (is.null(parts$corStruct)) numeric(0) else coef(parts$corStruct, unconstrained = FALSE)
  own <- switch(kind,
    arma11 = { f <- own[[1]]; m <- own[[2]]; c(f, (1 + f * m) * (f + m) / (1 + 2 * f * m + m^2)) },
    ma = { w <- c(1, own); vapply(seq_along(own), function(k) sum(head(w, -k) * tail(w, -k)) / sum(w^2), 0) },
    own)
  variances <- sigma2
  if (has("level")) {
    ratio <- coef(parts$varStruct, unconstrained = FALSE, allCoef = TRUE)
    variances <- sigma2 * ratio[levels(frame$level)]^2
  }
  rest <- c(variances, own)
  if (info[["unstructured"]] == "1") {
    m <- length(variances)
    C <- diag(m); C[lower.tri(C)] <- own
    S <- C * outer(sqrt(variances), sqrt(variances))
    rest <- S[lower.tri(S, diag = TRUE)]
  }
  v[p - length(rest) + seq_along(rest)] <- rest
  unname(v)
}

# Covariance of theta by the delta method from apVar, which is of nlme's unconstrained natural parameters and log(sigma)
covariance <- function(m) {
  none <- matrix(NA_real_, p, p)
  if (is.character(m$apVar) || is.null(m$apVar)) return(list(cov = none, said = if (is.character(m$apVar)) m$apVar))
  pars <- attr(m$apVar, "Pars")
  parts <- m$modelStruct
  if (!is.null(parts$reStruct)) {
    natural <- parts$reStruct
    for (i in seq_along(natural)) {
      matrix(natural[[i]]) <- m$sigma^2 * pdMatrix(natural[[i]])
      if (inherits(natural[[i]], "pdSymm")) natural[[i]] <- pdNatural(natural[[i]])
      if (inherits(natural[[i]], "pdBlocked")) for (j in seq_along(natural[[i]])) {
        if (inherits(natural[[i]][[j]], "pdSymm")) natural[[i]][[j]] <- pdNatural(natural[[i]][[j]])
      }
    }
    parts$reStruct <- natural
  }
  if (inherits(parts$corStruct, "corSymm")) {
    own <- coef(parts$corStruct, unconstrained = FALSE)
    class(parts$corStruct) <- c("corNatural", "corStruct")
    coef(parts$corStruct) <- log((1 + own) / (1 - own))
  }
  at <- function(x) {
    here <- parts
    if (length(x) > 1) coef(here) <- x[-length(x)]
    theta_of(here, exp(2 * x[length(x)]), TRUE)
  }
  J <- vapply(seq_along(pars), function(i) {
    h <- 1e-5; up <- pars; down <- pars; up[i] <- up[i] + h; down[i] <- down[i] - h
    (at(up) - at(down)) / (2 * h)
  }, numeric(p))
  J <- matrix(J, p)
  list(cov = J %*% m$apVar %*% t(J), said = NULL)
}

fit_each(Y, function(y) {
  frame$y <- y
  control <- list()
  if ("optimizer" %in% names(info)) control$opt <- info[["optimizer"]]
  method <- if (reml) "REML" else "ML"
  began <- proc.time()
  m <- if (length(random)) {
    lme(fixed, frame, random, correlation, weights, method = method, control = do.call(lmeControl, control))
  } else gls(fixed, frame, correlation, weights, method = method, control = do.call(glsControl, control))
  took <- proc.time() - began
  ses <- covariance(m)
  count <- if (is.null(m$numIter)) 0 else m$numIter   # lme does not say
  list(loglik = as.numeric(logLik(m)), n_iter = count, n_eval = count,
       cpu = took[["user.self"]] + took[["sys.self"]], wall = took[["elapsed"]], ended = 0,
       theta = theta_of(m$modelStruct, m$sigma^2, FALSE), theta_cov = as.vector(ses$cov),
       beta = unname(if (length(random)) fixef(m) else coef(m)),
       beta_cov = as.vector(if (length(random)) m$varFix else m$varBeta), said = ses$said)
})
