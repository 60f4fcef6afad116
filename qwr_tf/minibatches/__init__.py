"""How minibatches of lines 11 and 17 are drawn and prepared."""
