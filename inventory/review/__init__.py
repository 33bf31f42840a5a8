"""The review page: chips before and after, keys to decide, decisions in the GeoPackage."""
