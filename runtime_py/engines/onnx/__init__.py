"""ONNX Runtime: runs a graph and its weights, and says what memory that takes."""
