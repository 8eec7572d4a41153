# What vcbench's R scripts share: reading the folder they are given, and writing what they found.

need <- function(package) {
  if (!requireNamespace(package, quietly = TRUE)) quit(status = 3)
  suppressPackageStartupMessages(library(package, character.only = TRUE))
  writeLines(c(as.character(packageVersion(package)), R.version.string), file.path(folder, "version"))
}

info <- read.dcf(file.path(folder, "info"))[1, ]
number <- function(key) as.numeric(info[[key]])
has <- function(key) file.exists(file.path(folder, key))
n <- number("n"); R <- number("R"); d <- number("d"); p <- number("p")
reml <- info[["criterion"]] == "reml"

read_matrix <- function(key) {
  size <- file.size(file.path(folder, key)) / 8
  matrix(readBin(file.path(folder, key), "double", size, endian = "little"), n)
}
read_codes <- function(key) factor(readBin(file.path(folder, key), "integer", n, endian = "little"))

# f(y) is a list: loglik, n_iter, n_eval, ended (0 converged, 1 at the boundary, 2 not converged), theta, theta_cov, beta,
# beta_cov, cpu, wall. An error of the program is a failure of that response alone; warnings become its message.
fit_each <- function(Y, f) {
  out <- file(file.path(folder, "part"), "wb")
  messages <- character(R)
  for (j in seq_len(R)) {
    said <- character(0)
    x <- tryCatch(
      withCallingHandlers(f(Y[, j]), warning = function(w) {
        said <<- c(said, conditionMessage(w)); invokeRestart("muffleWarning")
      }, message = function(m) { said <<- c(said, conditionMessage(m)); invokeRestart("muffleMessage") }),
      error = function(e) { said <<- c(said, conditionMessage(e)); NULL })
    if (is.null(x)) x <- list(loglik = NA, n_iter = 0, n_eval = 0, cpu = NA, wall = NA, ended = 3,
                              theta = rep(NA, p), theta_cov = rep(NA, p * p), beta = rep(NA, d), beta_cov = rep(NA, d * d))
    writeBin(as.double(c(x$loglik, x$n_iter, x$n_eval, x$cpu, x$wall, x$ended, x$theta, x$theta_cov, x$beta, x$beta_cov)),
             out, endian = "little")
    messages[j] <- paste(unique(trimws(gsub("[[:space:]]+", " ", c(x$said, said)))), collapse = "; ")
  }
  close(out)
  writeLines(messages, file.path(folder, "messages"), useBytes = TRUE)
  invisible(file.rename(file.path(folder, "part"), file.path(folder, "out")))
}

# Inverse of half the Hessian of -2 log-likelihood `deviance` at v, over the parameters `free`, by central differences
# of steps h; NA elsewhere, and everywhere where it is not positive definite.
inverse_information <- function(deviance, v, h, free) {
  cov <- matrix(NA_real_, length(v), length(v))
  at <- function(...) { x <- v; for (s in list(...)) x[s[1]] <- x[s[1]] + s[2]; deviance(x) }
  H <- matrix(NA_real_, length(free), length(free))
  centre <- deviance(v)
  for (a in seq_along(free)) for (b in seq_len(a)) {
    i <- free[a]; j <- free[b]; s <- h[i]; t <- h[j]
    H[a, b] <- H[b, a] <- if (a == b) (at(c(i, s)) - 2 * centre + at(c(i, -s))) / s^2 else
      (at(c(i, s), c(j, t)) - at(c(i, s), c(j, -t)) - at(c(i, -s), c(j, t)) + at(c(i, -s), c(j, -t))) / (4 * s * t)
  }
  found <- tryCatch(chol2inv(chol(H / 2)), error = function(e) NULL)
  if (!is.null(found)) cov[free, free] <- found
  cov
}
