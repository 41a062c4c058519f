"""The operator's console: pages of HTML over what the API's admin routes do, each live while it is looked at.

``entry`` lets admins in and checks their forms; ``looks`` and ``tree`` say what pages show, ``regions`` draws what of
it changed, ``pages`` serves them; ``actions`` does what their forms ask for.
"""
