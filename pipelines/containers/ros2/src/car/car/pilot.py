"""A node that drives by a model: a picture in, steering and throttle out, and a stop without pictures."""

import numpy
import onnxruntime
import rclpy
from geometry_msgs.msg import Twist
from rclpy.node import Node
from sensor_msgs.msg import Image

# Seconds without a picture until the car stops.
STALE = 0.3


class Pilot(Node):
    def __init__(self):
        super().__init__("pilot")
        model = self.declare_parameter("model", "/models/pilot.onnx").value
        self.session = onnxruntime.InferenceSession(model, providers=onnxruntime.get_available_providers())
        self.input = self.session.get_inputs()[0].name
        self.wheels = self.create_publisher(Twist, "cmd_vel", 1)
        self.create_subscription(Image, "image_raw", self.see, 1)
        self.seen = None
        self.create_timer(STALE / 3, self.watch)

    def see(self, image):
        if image.encoding != "rgb8":
            self.get_logger().error(f"pictures are {image.encoding}, want rgb8", once=True)
            return
        self.seen = self.get_clock().now()
        rows = numpy.frombuffer(image.data, numpy.uint8).reshape(image.height, image.step)
        picture = rows[:, : image.width * 3].reshape(1, image.height, image.width, 3)
        steering, throttle = self.session.run(None, {self.input: picture.astype(numpy.float32) / 255})
        command = Twist()
        command.linear.x = float(numpy.clip(throttle.item(), 0, 1))
        command.angular.z = float(numpy.clip(-steering.item(), -1, 1))
        self.wheels.publish(command)

    def watch(self):
        if self.seen is None or (self.get_clock().now() - self.seen).nanoseconds > STALE * 1e9:
            self.wheels.publish(Twist())


def main():
    rclpy.init()
    rclpy.spin(Pilot())
