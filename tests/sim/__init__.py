"""The whole protocol on virtual time: the real code of several nodes, and everything around it that can break."""
