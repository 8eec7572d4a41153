"""Alleles and pedigrees: PLINK files, relationship matrices, heritability and genetic correlation from markers.

Nothing is imported here: each module is loaded when it is first used.
"""
