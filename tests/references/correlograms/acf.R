# Autocorrelations of normalized residuals by nlme. Run with the data folders as arguments:
#   Rscript acf.R models/data ../shared/data > acf.csv
# R 4.2.2, nlme 3.1-162
library(nlme)
folder <- commandArgs(TRUE)
sleepstudy <- read.csv(file.path(folder[1], "sleepstudy.csv"))
control <- lmeControl(opt = "optim", reltol = 1e-14, msMaxIter = 500)
slopes <- lme(Reaction ~ Days, random = ~ Days | Subject, sleepstudy, control = control)
ovary <- read.csv(file.path(folder[2], "ovary.csv"))
tight <- glsControl(opt = "optim", tolerance = 1e-12, msMaxIter = 500)
series <- gls(follicles ~ sin(2 * pi * Time) + cos(2 * pi * Time), ovary, correlation = corAR1(form = ~ 1 | Mare), control = tight)
write.csv(rbind(data.frame(model = "sleepstudy", ACF(slopes, resType = "normalized")),
                data.frame(model = "ovary", ACF(series, resType = "normalized", form = ~ 1 | Mare)[1:11, ])),
          row.names = FALSE, quote = FALSE)
