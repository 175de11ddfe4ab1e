import os

# onnxruntime reports to its maker, and leaves an id of the machine below the home directory, unless it is told not to
# before it is first imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
