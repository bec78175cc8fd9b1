"""The race: this gateway and its peers, measured in turn in one run. `make bench`; docs/performance.md keeps the figures."""
