"""The report: tables and figures from finished scores."""
