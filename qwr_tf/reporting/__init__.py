"""Floor 3: raw results and what is made of them."""
