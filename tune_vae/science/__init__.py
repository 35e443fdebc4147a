"""One VAE, one trial: formulas, networks and judgements. Knows torch and nothing else."""
