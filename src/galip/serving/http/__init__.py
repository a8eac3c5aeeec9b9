"""The HTTP app: routes, schemas, middleware."""
