"""What several families are built from: networks, latents, likelihoods, codebooks, priors, games."""
