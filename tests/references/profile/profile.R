# Profile-likelihood intervals by lme4: Rscript profile.R OUT DATA_DIR   (DATA_DIR: models/data)
# Written by R 4.2.2 with lme4 1.1-31 (Debian 12): profile.csv beside this file; lme4 profiles ML, whatever the fit.
suppressPackageStartupMessages(library(lme4))
args <- commandArgs(TRUE)
read <- function(name) read.csv(file.path(args[2], paste0(name, ".csv")), stringsAsFactors = TRUE)
control <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-10))
sleepstudy <- read("sleepstudy")
sleepstudy$Subject <- factor(sleepstudy$Subject)
fits <- list(
  sleepstudy = lmer(Reaction ~ Days + (Days | Subject), sleepstudy, REML = FALSE, control = control),
  sleepstudy_reml = lmer(Reaction ~ Days + (Days | Subject), sleepstudy, control = control),
  dyestuff = lmer(Yield ~ 1 + (1 | Batch), read("dyestuff"), REML = FALSE, control = control),
  penicillin = lmer(diameter ~ 1 + (1 | plate) + (1 | sample), read("penicillin"), REML = FALSE, control = control),
  pastes = lmer(strength ~ 1 + (1 | batch/cask), read("pastes"), REML = FALSE, control = control)
)
out <- NULL
for (name in names(fits)) {
  m <- fits[[name]]
  limits <- confint(profile(m, delta.cutoff = 1 / 40, signames = FALSE), level = 0.95)
  out <- rbind(out, data.frame(fit = name, parameter = rownames(limits), lower = limits[, 1], upper = limits[, 2],
                               loglik_ml = as.numeric(logLik(m, REML = FALSE))))
}
write.csv(format(out, digits = 12), args[1], row.names = FALSE, quote = FALSE)
