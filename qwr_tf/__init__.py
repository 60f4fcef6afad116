"""Q-Value Weighted Regression and its family on TF-Agents."""

__version__ = '0.1.0'
