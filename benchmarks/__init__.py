"""Figures for the README: medians and ratios within one run, never absolute promises."""
