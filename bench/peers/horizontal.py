def rounds(sites, n):
    return {}
