"""Thousands of predictions from one file of jobs, on this machine or on a Ray cluster."""
