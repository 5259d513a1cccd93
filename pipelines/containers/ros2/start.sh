#!/bin/sh
# Starts the car's node with the environment of ROS 2 and of the workspace.
set -eu
for setup in /opt/ros/humble/setup.sh /opt/car/install/setup.sh; do
    if [ -e "$setup" ]; then . "$setup"; fi
done
exec ros2 run car pilot --ros-args -p model:=/models/pilot.onnx
