# lmerTest and pbkrtest on the cases of cases.py:  Rscript peer.R cases.json answers.json
suppressMessages({ library(lmerTest); library(pbkrtest); library(jsonlite) })
args <- commandArgs(TRUE)
cases <- fromJSON(args[1], simplifyVector = FALSE)
control <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-10, maxfun = 1e5),
                       check.conv.singular = "ignore", check.conv.grad = "ignore", check.conv.hess = "ignore")
ask <- function(case) {
  data <- read.csv(case$csv)
  for (v in case$factors) data[[v]] <- factor(data[[v]], levels = sort(unique(as.character(data[[v]])), method = "radix"))
  for (v in case$ordered) data[[v]] <- factor(data[[v]], levels = sort(unique(as.character(data[[v]])), method = "radix"), ordered = TRUE)
  formula <- as.formula(case$formula)
  fit <- function(reml) eval(bquote(lmer(.(formula), data, REML = .(reml), control = control)))
  m <- suppressMessages(fit(TRUE)); ml <- suppressMessages(fit(FALSE))
  table <- function(x) { x <- as.matrix(as.data.frame(x)); list(terms = rownames(x), F = x[, "F value"], numerator_df = x[, "NumDF"],
                         denominator_df = x[, "DenDF"], p = x[, "Pr(>F)"]) }
  kr <- vcovAdj(m)
  list(formula = case$formula, singular = isSingular(m, tol = 1e-4), loglik = as.numeric(logLik(m)), theta = getME(m, "theta"), sigma = sigma(m),
       names = names(fixef(m)), beta = unname(fixef(m)),
       satterthwaite = unname(coef(summary(m))), kenward_roger = unname(coef(summary(m, ddf = "Kenward-Roger"))),
       ml = list(loglik = as.numeric(logLik(ml)), singular = isSingular(ml, tol = 1e-4), satterthwaite = unname(coef(summary(ml)))),
       adjusted = unname(as.matrix(kr)),
       anova = sapply(c("1", "2", "3"), function(t) list(satterthwaite = table(anova(m, type = t)),
                      kenward_roger = table(anova(m, type = t, ddf = "Kenward-Roger"))), simplify = FALSE))
}
out <- list()
for (case in cases) { message(case$name); out[[case$name]] <- suppressMessages(ask(case)) }
versions <- list(R = R.version.string, lme4 = as.character(packageVersion("lme4")), lmerTest = as.character(packageVersion("lmerTest")),
                 pbkrtest = as.character(packageVersion("pbkrtest")))
head <- list(command = "python -m references.fixed_effects.cases (in tests/)", versions = versions,
             control = 'lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-10, maxfun = 1e5))')
json <- function(x) as.character(toJSON(x, digits = I(12), auto_unbox = TRUE, na = "null"))
lines <- paste0('"', names(out), '": ', vapply(out, json, ""), collapse = ",\n")  # a case a line
writeLines(paste0(sub("}$", "", json(head)), ',\n"cases": {\n', lines, "\n}}"), args[2])
