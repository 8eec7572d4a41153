# What lme4 and nlme say of predictions, conditional variances, leverages and residuals: the reference of
# tests/inference/test_prediction_references.py. Run:
#   Rscript tests/references/prediction.R > tests/references/prediction.toml
suppressPackageStartupMessages({library(lme4); library(nlme)})
num <- function(x) paste0("[", paste(formatC(as.numeric(x), digits = 15, format = "g"), collapse = ", "), "]")
put <- function(name, x) cat(name, " = ", num(x), "\n", sep = "")
tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-10))
cat("# ", R.version.string, ", lme4 ", as.character(packageVersion("lme4")), ", nlme ",
    as.character(packageVersion("nlme")), "; written by prediction.R\n", sep = "")

m <- lmer(Reaction ~ Days + (Days | Subject), sleepstudy, control = tight)
V <- VarCorr(m)$Subject
u <- ranef(m, condVar = TRUE)$Subject
cat("\n[sleepstudy]\n")
put("theta", c(V[1, 1], V[2, 1], V[2, 2], sigma(m)^2))
put("beta", fixef(m))
put("ranef", t(as.matrix(u)))                       # Subject by Subject
put("condvar", attr(u, "postVar"))                  # 2 x 2 by Subject
put("hatvalues", hatvalues(m))
new <- data.frame(Days = c(0, 5, 12, 12), Subject = c("308", "335", "372", "999"))
put("predict", predict(m, new, allow.new.levels = TRUE))
put("predict_population", predict(m, new, re.form = NA))

m <- lmer(diameter ~ 1 + (1 | plate) + (1 | sample), Penicillin, control = tight)
u <- ranef(m, condVar = TRUE)
cat("\n[penicillin]\n")
put("theta", c(VarCorr(m)$plate, VarCorr(m)$sample, sigma(m)^2))
put("beta", fixef(m))
put("ranef_plate", u$plate[, 1])
put("ranef_sample", u$sample[, 1])
put("condvar_plate", attr(u$plate, "postVar"))
put("condvar_sample", attr(u$sample, "postVar"))
put("hatvalues", hatvalues(m)[1:24])
put("predict", predict(m)[1:24])
put("predict_plate", predict(m, re.form = ~ (1 | plate))[1:24])

m <- lme(distance ~ age, Orthodont, random = ~ 1 | Subject, correlation = corAR1(form = ~ 1 | Subject),
         weights = varIdent(form = ~ 1 | Sex))
cat("\n[orthodont]\n")
ratio <- coef(m$modelStruct$varStruct, unconstrained = FALSE)   # Female over Male
rho <- coef(m$modelStruct$corStruct, unconstrained = FALSE)
put("theta", c(getVarCov(m)[1, 1], m$sigma^2, (m$sigma * ratio)^2, rho))
put("beta", fixef(m))
put("response", resid(m, type = "response"))
put("pearson", resid(m, type = "pearson"))
put("normalized", resid(m, type = "normalized"))
put("marginal", resid(m, level = 0))
cat("subject = [", paste0('"', Orthodont$Subject, '"', collapse = ", "), "]\n", sep = "")
put("age", Orthodont$age)
put("distance", Orthodont$distance)
cat("sex = [", paste0('"', Orthodont$Sex, '"', collapse = ", "), "]\n", sep = "")
