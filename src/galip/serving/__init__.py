"""The service: OpenAI's image API, films, and a web app, over worker processes or a cluster."""
