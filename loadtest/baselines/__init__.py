"""Other ways to answer a redirect, to measure Hopcount against: the same Granian, the same response.

Each module has `create_app(dsn)`, which returns an ASGI application and a context to run it in.
"""
