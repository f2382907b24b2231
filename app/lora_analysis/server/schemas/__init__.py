"""The types of requests and replies, from which the OpenAPI document and the typed client are made."""
