"""The service: OpenAI's image API, videos, and a web app, over worker processes or a cluster."""
