"""The workers of a Ray cluster, by Ray's public interface alone."""
