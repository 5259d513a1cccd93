#!/bin/sh
# Starts the runtime, which the pipeline or the base puts at /usr/bin/pitlane-car.
set -eu
if [ ! -e "$CAR_ONNXRUNTIME" ]; then
    echo "start: $CAR_ONNXRUNTIME is missing: build with --build-arg ONNXRUNTIME=..." >&2
    exit 1
fi
exec /usr/bin/pitlane-car drive --model /models/pilot.onnx --ort-lib "$CAR_ONNXRUNTIME" "$@"
