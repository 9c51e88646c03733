"""The pages of the demo, one module each. `show` draws a page.

`serving.demo.app` lists them. What two pages share belongs to `serving.demo`.
"""
