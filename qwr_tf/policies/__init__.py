"""TF-Agents policies that act, and write their distribution (mu) down."""
