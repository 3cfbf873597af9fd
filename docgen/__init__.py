"""Makes the pages of the documentation that come from the code: no table there is kept by hand."""
