from setuptools import setup

setup(
    name="car",
    version="1.0.0",
    packages=["car"],
    data_files=[("share/ament_index/resource_index/packages", ["resource/car"]), ("share/car", ["package.xml"])],
    entry_points={"console_scripts": ["pilot = car.pilot:main"]},
)
