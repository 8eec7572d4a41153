# Single term deletions by lmerTest, as tests/inference/test_likelihood_ratio.py reads them.
#   Rscript ranova.R DATA > ranova.csv        DATA: the folder of sleepstudy.csv, penicillin.csv, machines.csv
suppressPackageStartupMessages(library(lmerTest))
folder <- commandArgs(TRUE)[1]
control <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-10))
cat("# lmerTest", as.character(packageVersion("lmerTest")), "lme4", as.character(packageVersion("lme4")),
    R.version.string, "\n")
cat("data,formula,term,npar,loglik,aic,lrt,df\n")
table <- function(data, formula) {
  d <- read.csv(file.path(folder, paste0(data, ".csv")))
  for (g in intersect(names(d), c("Subject", "Worker", "plate", "sample"))) d[[g]] <- factor(d[[g]])
  r <- suppressWarnings(ranova(lmer(as.formula(formula), d, control = control)))
  for (i in seq_len(nrow(r)))
    cat(sprintf("%s,%s,%s,%d,%.8f,%.8f,%.8f,%d\n", data, formula, rownames(r)[i], r$npar[i], r$logLik[i], r$AIC[i],
                r$LRT[i], as.integer(r$Df[i])))
}
table("sleepstudy", "Reaction ~ Days + (Days | Subject)")
table("sleepstudy", "Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)")
table("penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)")
table("machines", "score ~ Machine + (Machine | Worker)")
table("machines", "score ~ Machine + (1 | Worker) + (1 | Worker:Machine)")
