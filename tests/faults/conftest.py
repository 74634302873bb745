from tests.stores import embedded, prefix, store_env

__all__ = ["embedded", "prefix", "store_env"]
