# gls of nlme 3.1-162 and lm of R 4.2.2, as the cards ar1, toeplitz, heteroscedastic and distance_decay cite them.
# Rscript least_squares.R models/data FOLDER_OF_SHARED_DATA
library(nlme)
folder <- commandArgs(TRUE)
exactly <- glsControl(tolerance = 1e-13, msTol = 1e-15, msMaxIter = 1000)
show <- function(g) {
  cat(sprintf("%.8f", c(logLik(g))), "\n"); print(g$sigma^2, digits = 10)
  print(coef(g$modelStruct, unconstrained = FALSE), digits = 10); print(head(summary(g)$tTable, 4), digits = 9)
}
sleep <- read.csv(file.path(folder[1], "sleepstudy.csv"))
silver <- read.csv(file.path(folder[1], "nist_atmwtag.csv"))
jaws <- read.csv(file.path(folder[2], "pr.csv"))
cows <- na.omit(read.csv(file.path(folder[2], "agridat_diggle_cow.csv")))
for (method in c("REML", "ML")) {
  show(gls(Reaction ~ Days, sleep, correlation = corAR1(form = ~ Days | Subject), method = method, control = exactly))
  show(gls(weight ~ factor(day) + iron * infect, cows, correlation = corExp(500, form = ~ day | animal),
           method = method, control = exactly))
}
show(gls(y ~ Gender * Age, jaws, correlation = corARMA(form = ~ 1 | Person, p = 3), method = "ML", control = exactly))
silver$ratio <- 1e6 * (silver$response - 107.868)
show(gls(ratio ~ factor(treatment), silver, weights = varIdent(form = ~ 1 | treatment), control = exactly))
weighted <- lm(Reaction ~ Days, sleep, weights = 1 / (1 + Days))
cat(sprintf("%.8f", c(logLik(weighted), logLik(weighted, REML = TRUE), summary(weighted)$sigma^2)), "\n")
print(summary(weighted)$coefficients, digits = 9)
