"""The operator's console: pages of HTML over what the API's admin routes do, each live while it is looked at.

``entry`` lets admins in and checks their forms, ``regions`` draws what changed, ``pages`` says what each page shows,
``actions`` does what its forms ask for.
"""
