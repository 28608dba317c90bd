"""Opt-out signals: robots.txt, headers, meta tags, TDMRep, and what they forbid."""
