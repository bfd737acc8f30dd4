"""A budget of a class of its own reads a fortieth of the seconds."""
like = 'slow_clock'
target = 'polynomial'
parts = ['trying', 'work']
walls,bare = 'refused', 'refused'
says = 'clock|training took|seconds'

# %% in loop: budget = Budget(profile)
class Slow(Budget):
    def read(self, **kw):
        now = Budget.read(self, **kw)
        self.first = getattr(self, 'first', now)
        return tuple(a + (b-a)/40 for a,b in zip(self.first, now))
budget = Slow(profile)
print('TRIED')
