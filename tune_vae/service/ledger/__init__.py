"""The truth about a study, kept in Optuna's storage.

A trial's number is that of its first row. A row that was interrupted ends as FAIL, and a WAITING
row takes over its parameters and its number; the two are one trial. Collapsed and diverged
trials are told as PRUNED, never as FAIL: TPE ignores failed rows and is drawn to where they
died. So is a point that is dead by the data's spectrum: it is drawn, told and not trained, and is
no trial.

Repeats of finalists are rows of a study of their own beside it, `<name>/repeats`, which has no
sampler: several rows of one point would mislead it, and what it suggests is the same with and
without them.
"""
