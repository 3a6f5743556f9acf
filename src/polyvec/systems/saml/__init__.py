"""SAML: one ranking model for many scenarios (Chen et al., ICDMW 2020)."""
