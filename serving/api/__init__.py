"""The HTTP API: routes, schemas, problem responses, and the middleware around them."""
