password = "Tr0ub4dor-and-3-horses"
url = "https://a:hJ8kQ2zX@example.org"
