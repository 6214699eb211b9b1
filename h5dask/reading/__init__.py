"""Files to Datasets: what they are, how they make up variables, which rules they break."""
