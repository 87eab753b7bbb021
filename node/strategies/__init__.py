"""The three ways of counting; `node/strategy.py` has their contract."""
