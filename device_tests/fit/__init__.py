"""Will a bundle, built or planned, fit a device, and what would make it smaller?"""
